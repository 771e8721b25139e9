"""The parts of `collect`: what runs together (plan), what is kept (pooling), how far it is (state), who runs it (ranks)."""
