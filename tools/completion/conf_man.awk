# From `ingled --print-config` to the scdoc source of ingle.conf(5): a comment, then its key.
BEGIN {
    print "ingle.conf(5)\n\n# NAME\n\ningle.conf - configuration of the language model runtime\n"
    print "# DESCRIPTION\n"
    print "_$XDG_CONFIG_HOME/ingle/ingle.conf_, then _conf.d/\\*.conf_ beside it: sections in brackets,"
    print "lines of the form _key_ = _value_, comments after a semicolon. *ingle config check* names the"
    print "line and the nearest right word of what is wrong; *ingle config get* prints what holds.\n"
}
function safe(text) {
    gsub(/[\\_*]/, "\\\\&", text)
    return text
}
/^\[/ {
    gsub(/[][]/, "")
    print "# [" safe($0) "]\n"
    next
}
/^; \[/ {
    print "# MODELS\n\nA section *[model \"NAME\"]* for each model with options of its own.\n"
    next
}
/^; [a-z_]+ = / { # an example of a model's key: key = default    ; help
    cut = index($0, "    ; ")
    split(substr($0, 3, cut - 3), pair, / = */)
    initial = pair[2] != "" ? " (default " safe(pair[2]) ")" : ""
    print "*" safe(pair[1]) "*\n\t" safe(substr($0, cut + 6)) initial "\n"
    next
}
/^; / {
    help = substr($0, 3)
    next
}
/ = / {
    print "*" safe($1) "*\n\t" safe(help) "\n"
}
END {
    print "# SEE ALSO\n\n*ingled*(8), *ingle*(1)"
}
