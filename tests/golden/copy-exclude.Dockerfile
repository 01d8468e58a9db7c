FROM debian:12
COPY --exclude=*.md --exclude=**/tests --exclude=!README.md . /x/
ADD --exclude=dir/** . /y/
ARG E=*.log
COPY --exclude=$E . /z/
