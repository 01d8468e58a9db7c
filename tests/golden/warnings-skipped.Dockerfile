# check=skip=BaseImageUntagged
FROM debian
# pybuild: skip=SudoUsed
RUN sudo make
# pybuild: skip=SudoUsd
RUN sudo make
