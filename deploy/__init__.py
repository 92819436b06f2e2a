"""How DermQueue is run: the command line, the embedded stack."""
