"""What every other room stands on: settings, errors, identity, blobs, keys, logs, files."""
