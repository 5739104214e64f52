"""Collage inference: networks that classify many images in one pass, and what that is worth against stragglers."""
