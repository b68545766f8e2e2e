"""A small AudioLDM from captioned clips: CLAP, then the VAE, then the UNet, each by the shared training loop."""
