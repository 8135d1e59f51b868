"""What web, worker and command line must agree on: no Flask, no TensorFlow, no Keras."""
