"""DIMSE: receives images by C-STORE, and asks archives for them by C-FIND and C-MOVE.

`python -m api.dimse` is the receiver (`kindred dicom`). Its first process (`door.py`) accepts
connections and hands each to one of several receivers (`receiver.py`), since pynetdicom keeps one
core busy at most; another process makes jobs of what they store (`api/incoming.py`).
"""
