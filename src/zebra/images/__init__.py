"""Image decoding, preprocessing, augmentation and perceptual hashes."""
