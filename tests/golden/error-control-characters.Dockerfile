FROM debian
[31mRUN true
