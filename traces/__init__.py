"""What arrives: readers of public formats, the generator, splits in time, and capture of live traffic."""
