"""Training: engines, the joint-loss hook, checkpoints, the train loop."""
