"""What is read and written for a folder of audio: the stages, ``.npz`` files and Parquet tables."""
