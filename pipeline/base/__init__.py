"""The base of every other package: settings, errors, identity, blobs, keys, logs, files."""
