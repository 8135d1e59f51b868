"""What web, worker and command line agree on: no Flask, no TensorFlow, no Keras."""
