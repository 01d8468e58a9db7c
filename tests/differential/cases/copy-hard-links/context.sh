echo x >one; ln one two; mkdir d; ln one d/three
