"""How a bundle is made: read labelled images, fine-tune, calibrate, evaluate, bundle."""
