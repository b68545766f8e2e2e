"""Playlists to and from Spotify; audio always comes from the user's own files."""
