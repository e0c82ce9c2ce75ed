# bash completion for jailctl; needs nothing but bash 4 and jailctl
_jailctl() {
	local word line prefix directive=0 cur=${COMP_WORDS[COMP_CWORD]} args=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
		# bash takes --tty=share apart.
		if [[ ${#args[@]} -gt 0 && ($word == = || ${args[-1]} == *=) ]]; then
			args[-1]+=$word
		else
			args+=("$word")
		fi
	done
	if [[ $cur == = ]]; then cur=''; fi
	prefix=${args[-1]%"$cur"}
	COMPREPLY=()
	while IFS= read -r line; do
		# A line has a word, perhaps a tab and what it means; the last is a number.
		if [[ $line == :* ]]; then directive=${line#:}; continue; fi
		line=${line%%$'\t'*}
		if [[ $line == "$prefix$cur"* ]]; then
			if [[ $prefix == *= ]]; then line=${line#"$prefix"}; fi
			COMPREPLY+=("$line")
		fi
	done < <("${COMP_WORDS[0]}" __complete "${args[@]}" 2>/dev/null)
	# 2: no blank behind it; 4: no names of files.
	if ((directive & 2)); then compopt -o nospace; fi
	if (((directive & 4) == 0)); then compopt -o default; fi
}
complete -F _jailctl jailctl
