# A compiler and what it starts. Argument: folder.
set -eu
cd "$1"
mkdir tmp
export TMPDIR="$1/tmp" LC_ALL=C
cat > part.h << END
int part(int);
END
cat > part.c << END
#include "part.h"
int part(int n) { return n < 2 ? n : part(n - 1) + part(n - 2); }
END
cat > main.c << END
#include <stdio.h>
#include "part.h"
int main(void) { printf("%d\n", part(20)); return 0; }
END
gcc -O2 -g -c part.c
gcc -c main.c
ar rcs libpart.a part.o
gcc -o program main.o -L. -lpart
./program
gcc -shared -fPIC -o libpart.so part.c
gcc -o linked main.o ./libpart.so
./linked
strip program
./program
ls tmp | wc -l
