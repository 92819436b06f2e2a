"""The analysis side: Celery tasks, the network, Grad-CAM, training. Never loads Flask."""
