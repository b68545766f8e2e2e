"""From conditions to audio: noise for each clip, one denoising loop for both families, windows, decoding."""
