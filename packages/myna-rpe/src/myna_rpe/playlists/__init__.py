"""Playlists from sound: made, extended, joined and ordered with the tracks of a library."""
