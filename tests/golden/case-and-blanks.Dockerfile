  # indented comment
  from debian As Base
	Run   echo  hi  
  cOpY	 a	 b 
env  A=1
