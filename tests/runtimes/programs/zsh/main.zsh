. ./total.zsh
total 100
read -r line
echo $line
