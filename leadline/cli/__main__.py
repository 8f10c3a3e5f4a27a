"""`python -m leadline.cli`: the same as the script, for a checkout that is not installed and for child processes."""

from leadline.cli import main

main()
