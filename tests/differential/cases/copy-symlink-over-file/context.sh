mkdir tree; ln -s data tree/file; echo x >tree/dangling; echo y >tree/link
