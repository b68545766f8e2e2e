"""What the style knob does, measured on sound: timbre, melody, similarity to the prompt, copies, joints."""
