"""The domain: sources, images, encoder, store, blobs, ledger, and messages between processes."""
