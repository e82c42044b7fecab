"""``python -m diptych`` is ``diptych``."""

from diptych.cli import main

main()
