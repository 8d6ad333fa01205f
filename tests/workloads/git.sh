# Version control of a local repository. Argument: folder.
set -eu
cd "$1"
export HOME="$1" GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat LC_ALL=C
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
git=/usr/bin/git
$git config --global user.name khard
$git config --global user.email khard@localhost
$git config --global init.defaultBranch main
$git init -q origin
cd origin
echo one > file && $git add file && $git commit -qm first
echo two >> file && $git commit -qam second
cd ..
$git clone -q origin copy
cd copy
$git log --format=%s
$git checkout -qb side HEAD~1
cat file
echo other > other && $git add . && $git commit -qm third
$git merge -q main -m merged
$git push -q origin side
$git gc -q
$git status --short
cd ../origin
$git log --format=%s side | head -1
