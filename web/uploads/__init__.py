"""Uploads in pieces that outlive their connection: the tus protocol, and its end."""
