FROM team/app-onbuild
RUN after the triggers
