"""Stage 2: heads on cached cubes. Never sees a pixel."""
