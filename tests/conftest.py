"""What holds for all tests."""

import os

# Tests run beside each other on few cores: threads of torch that spin while they wait would slow all of them down
# twentyfold.
# The supervisor sets the same for a worker (engine/supervise.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
