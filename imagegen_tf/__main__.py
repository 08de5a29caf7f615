"""python -m imagegen_tf: hands over to the machinery of the course."""

import sys

from course.cli import main

if __name__ == "__main__":
    sys.exit(main())
