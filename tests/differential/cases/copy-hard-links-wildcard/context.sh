echo x >one; ln one two; ln one three
