"""Helpers of this folder, which is no package, are imported by their names."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
