/* The program that a step of the floor executes. */
int main(void) { return 0; }
