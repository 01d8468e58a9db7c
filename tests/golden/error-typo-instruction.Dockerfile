FROM debian
COPPY a b
