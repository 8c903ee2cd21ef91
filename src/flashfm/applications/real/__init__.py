"""Four hand-written applications after those of Sizeless; each is one `Segment` with fixed sizes."""
