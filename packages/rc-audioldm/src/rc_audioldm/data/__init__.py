"""Data for banks and adapters: manifests, layouts of data sets, curation, audits, chunks, MIDI.

Everything reads and writes one format, the manifest (:mod:`rc_audioldm.data.manifest`). Audits read it directly, so the
original's folder of numbered links to the files of a manifest has no counterpart here.
"""
