"""Our planning in latent space against that of the released V-JEPA 2-AC, on the same work.

    python benchmarks/planning.py --official PATH [--parts same trained growth goal peer latency]

What is compared, and how, is said in `planning_comparison.py`. This file is only its door: it has
the name of the package that is measured, so its folder must not come before that package.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path = [str(FOLDER.parent), *(p for p in sys.path if Path(p) != FOLDER), str(FOLDER)]

from planning_comparison import main  # noqa: E402

if __name__ == "__main__":
    main()
