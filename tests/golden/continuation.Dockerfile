FROM debian
RUN apt-get update \
  # a comment inside

	# another
 && apt-get install -y \  
    curl \	
    git
RUN echo one\
two \

RUN echo no \\
RUN last \