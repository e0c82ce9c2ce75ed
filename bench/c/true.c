/* The command that every launcher starts: static, so that the jail holds one file. */
int main(void)
{
	return 0;
}
