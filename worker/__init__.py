"""The analysis side: Celery tasks, the network, Grad-CAM, training. Never loads Flask."""

import os

# OpenMP threads that spin while they wait make a forward pass on contended cores twenty times slower (930 ms against
# 40 ms, ResNet-18). The OpenMP runtime reads this once, when torch is first imported, hence here and not in a setting.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The same goes for OpenBLAS's threads, which numpy starts for products that one thread computes in 0.1 ms.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
