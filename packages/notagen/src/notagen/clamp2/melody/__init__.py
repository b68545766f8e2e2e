"""Search for melodies by their notes, without any model: by interval, contour or rhythm, in any key.

A folder of scores is read once into an index (:func:`notagen.clamp2.melody.folder.index_folder`), one file that later
searches map into memory.
"""
