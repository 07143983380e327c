# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_agentcore_global_optspecs
    string join \n output= color= q/quiet v/verbose config= agent= h/help V/version
end

function __fish_agentcore_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_agentcore_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_agentcore_using_subcommand
    set -l cmd (__fish_agentcore_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c agentcore -n "__fish_agentcore_needs_command" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_needs_command" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_needs_command" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_needs_command" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_needs_command" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_needs_command" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_needs_command" -s V -l version -d 'Print version'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "create" -d 'Make a new project'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "configure" -d 'Write or change the project file: by questions on a terminal, or by flags alone'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "invoke" -d 'A verb with the options that place it in AWS'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "exec" -d 'A verb with the options that place it in AWS'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "stop" -d 'A verb with the options that place it in AWS'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "local" -d 'Run agents offline, in the emulator'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "session" -d 'Short names of sessions'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "doctor" -d 'Check what this machine has for running sessions, and say what fixes what it lacks'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "completions" -d 'Print the completion script of a shell'
complete -c agentcore -n "__fish_agentcore_needs_command" -f -a "demo-agent" -d 'The agent of `local demo`'
complete -c agentcore -n "__fish_agentcore_using_subcommand create" -l template -d 'What to begin with' -r -f -a "minimal\t'A Python agent without dependencies'
sdk\t'A Python agent on the `bedrock-agentcore` package'
node\t'A Node agent without dependencies'
strands\t'A coding agent with Strands Agents'"
complete -c agentcore -n "__fish_agentcore_using_subcommand create" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand create" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand create" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand create" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand create" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand create" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -s e -l entrypoint -d 'File that the agent begins with, or its directory' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -s n -l name -d 'Name of the agent: changes it where there is one, else adds it' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l command -d 'How an agent that is no Python file is started, such as "node server.js"' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l deployment-type -d 'An archive in S3, or an image in ECR' -r -f -a "container\t'An image in ECR'
direct_code_deploy\t'An archive in S3'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l runtime -d 'Runtime of an archive, such as PYTHON_3_13' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l region -d 'AWS region' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l account -d 'AWS account, twelve digits' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l execution-role -d 'Execution role: `auto`, an ARN, or a name in the account' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l ecr -d 'ECR repository: `auto`, a URI or a name' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l s3 -d 'S3 location of archives: `auto`, or s3://BUCKET/PREFIX' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l container-runtime -d 'Container tool' -r -f -a "docker\t''
finch\t''
podman\t''
none\t''"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l authorizer-config -d 'Authorizer as the API takes it, such as {"customJWTAuthorizer": {…}}; `none` for IAM' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l request-header-allowlist -d 'Request headers that reach the agent, with commas between them; empty for none' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l protocol -d 'Protocol of the agent' -r -f -a "HTTP\t''
MCP\t''
A2A\t''
AGUI\t''"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l subnets -d 'Subnets of the VPC, with commas between them' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l security-groups -d 'Security groups of the VPC, with commas between them' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l idle-timeout -d 'Idle time after which a session stops, such as 15m' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l max-lifetime -d 'Longest life of a session\'s compute, such as 8h' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l session-storage -d 'Where sessions find their storage, such as /mnt/workspace; `none` for no storage' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l env -d 'Environment variable of the agent' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l unset-env -d 'Environment variable to take away' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l tag -d 'Tag of the runtime' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l model -d 'Bedrock model that the agent may call; none named: every model' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l from -d 'Take over a project of the npm tool: its directory, or its agentcore.json' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l vpc -d 'Run in a VPC'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l no-vpc -d 'Run outside of a VPC'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l disable-otel -d 'Switch observability off'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l disable-memory -d 'Switch AgentCore Memory off'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l default -d 'Make the agent the default one'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l non-interactive -d 'Ask nothing: take what is named, and good defaults'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -l dry-run -d 'Print the file as it would be, and write nothing'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -f -a "list" -d 'List the agents of the project file'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -f -a "show" -d 'Show what the project file says of an agent, with the defaults'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and not __fish_seen_subcommand_from list show set-default" -f -a "set-default" -d 'Make an agent the one that commands mean when they name none'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from list" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from list" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from list" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from list" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from show" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from show" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from show" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from show" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from set-default" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from set-default" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from set-default" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from set-default" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from set-default" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from set-default" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand configure; and __fish_seen_subcommand_from set-default" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l arn -d 'Any runtime, by its ARN [default: the one that the project\'s agent was deployed to]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l region -d 'AWS Region [default: the runtime\'s own]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l profile -d 'Profile of your AWS configuration' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l endpoint-url -d 'Where the service is instead of AWS\'s own address [env: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, and with _CONTROL]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l bearer-token -d 'Token of the runtime\'s identity provider instead of AWS credentials; @FILE reads one [env: AGENTCORE_BEARER_TOKEN]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l session -d 'Session, by its id or a short name such as `ticket-8421` [default: the project\'s last one]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l qualifier -d 'Endpoint of the runtime' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l header -d 'Header for the agent, where the runtime\'s allowlist lets it through' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l user-id -d 'End user on whose behalf the call is made' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l timeout -d 'Longest wait for the agent\'s answer to begin [default: 15m]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l content-type -d 'Content type of the payload, which is then sent as it is' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l new-session -d 'Begin a new session'
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -l raw -d 'Write server-sent events byte for byte instead of their data'
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand invoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l arn -d 'Any runtime, by its ARN [default: the one that the project\'s agent was deployed to]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l region -d 'AWS Region [default: the runtime\'s own]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l profile -d 'Profile of your AWS configuration' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l endpoint-url -d 'Where the service is instead of AWS\'s own address [env: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, and with _CONTROL]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l bearer-token -d 'Token of the runtime\'s identity provider instead of AWS credentials; @FILE reads one [env: AGENTCORE_BEARER_TOKEN]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l session -d 'Session, by its id or a short name; several with commas between them [default: the project\'s last one]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l qualifier -d 'Endpoint of the runtime' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l timeout -d 'End the command after this time, 1s to 1h; the exit code is 124 then [default: 5m]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l cwd -d 'Directory to run it in' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l env -d 'Variable of its environment' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l file -d 'Run this script of your machine; what follows are its arguments' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l new-session -d 'Begin a new session'
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -l no-stdin -d 'Leave standard input alone'
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l arn -d 'Any runtime, by its ARN [default: the one that the project\'s agent was deployed to]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l region -d 'AWS Region [default: the runtime\'s own]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l profile -d 'Profile of your AWS configuration' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l endpoint-url -d 'Where the service is instead of AWS\'s own address [env: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, and with _CONTROL]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l bearer-token -d 'Token of the runtime\'s identity provider instead of AWS credentials; @FILE reads one [env: AGENTCORE_BEARER_TOKEN]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l session -d 'Session, by its id or a short name such as `ticket-8421` [default: the project\'s last one]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l qualifier -d 'Endpoint of the runtime' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l timeout -d 'Longest wait until it is known to be down [default: 75s]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -l all -d 'Every session that this project is known to have used and not stopped; in the emulator every live one'
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "up" -d 'Start the emulator, in the background unless told otherwise'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "down" -d 'Stop every session with grace and end the emulator'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "status" -d 'Show whether the emulator runs; exits with 1 when it does not'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "env" -d 'Print the variables that point SDKs at the emulator: eval "$(agentcore local env)"'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "logs" -d 'Show what agents wrote to standard output and error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "deploy" -d 'Deploy the project\'s agent to the emulator: a new version where anything changed'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "invoke" -d 'Call an agent in a session; its answer comes as it is sent'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "exec" -d 'Run a command in a session, with its exit code as ours'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "stop" -d 'Stop a session and wait until its compute is known to be down; the next call resumes it'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "session" -d 'Look at and remove sessions'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "clock" -d 'Show or move the emulator\'s clock'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and not __fish_seen_subcommand_from up down status env logs deploy invoke exec stop session clock demo" -f -a "demo" -d 'Show the whole story: an agent writes a file, stops, resumes, and the file is there'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l port -d 'Port on the loopback interface [default: 8642, or a free one when that is taken]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l engine -d 'What runs sessions' -r -f -a "embedded\t'Namespaces of this Linux host'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l isolation -d 'What keeps sessions apart [default: namespaces]; `process` is a last resort where the system denies them' -r -f -a "namespaces\t'Namespaces of this Linux host, a filter of calls, and limits'
process\t'Nothing: agents are processes of yours, with a home and a port of their own'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l grace -d 'Time between SIGTERM and SIGKILL when a session stops [default: 10s]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l conflicts -d 'What a call meets while its session starts or stops [default: wait]' -r -f -a "wait\t'It waits'
aws\t'409 RetryableConflictException at once, as the service documents it'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l ready-delay -d 'Time that a runtime stays CREATING or UPDATING [default: 100ms]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l init-timeout -d 'Longest time to an agent\'s first healthy ping [default: 30s]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l network -d 'Whether sessions reach the network, through the emulator\'s proxy [default: on]' -r -f -a "on\t'All but this machine, through the proxy that the usual variables name'
off\t'Nothing but their own loopback'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l network-allow -d 'Service of this machine that sessions may reach, as `host.docker.internal:PORT`: a model server for one; repeatable' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l aws-identity -d 'AWS credentials that agents get: `none`, `profile NAME`, or `role` for each runtime\'s own role [default: none]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l region -d 'Region in ARNs [default: us-west-2]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l account -d 'Account in ARNs [default: 000000000000]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l early-mount -d 'Show session storage from the start of a compute instead of from its first call'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l allow-agent-calls -d 'Let agents call the emulator: invoke and change every runtime, run commands in every session'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l foreground -d 'Stay in the foreground until Ctrl-C'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l watch -d 'Watch the project here, and restart its running sessions as soon as their code changes'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -l detached -d 'Leave the terminal\'s session'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from up" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from down" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from down" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from down" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from down" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from down" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from down" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from down" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from down" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from status" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from status" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from status" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from status" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from status" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -l shell -d 'Whose syntax to use' -r -f -a "posix\t'sh, bash, zsh'
fish\t''
powershell\t''"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from env" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -l session -d 'Of this session only, by its id or short name' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -s f -l follow -d 'Go on with new lines until Ctrl-C'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -l all -d 'Of every agent, not of the project\'s alone'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -l force -d 'Make a new version although nothing changed'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from deploy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l session -d 'Session, by its id or a short name such as `ticket-8421` [default: the project\'s last one]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l qualifier -d 'Endpoint of the runtime' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l header -d 'Header for the agent, where the runtime\'s allowlist lets it through' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l user-id -d 'End user on whose behalf the call is made' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l timeout -d 'Longest wait for the agent\'s answer to begin [default: 15m]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l content-type -d 'Content type of the payload, which is then sent as it is' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l new-session -d 'Begin a new session'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -l raw -d 'Write server-sent events byte for byte instead of their data'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from invoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l session -d 'Session, by its id or a short name; several with commas between them [default: the project\'s last one]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l qualifier -d 'Endpoint of the runtime' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l timeout -d 'End the command after this time, 1s to 1h; the exit code is 124 then [default: 5m]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l cwd -d 'Directory to run it in' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l env -d 'Variable of its environment' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l file -d 'Run this script of your machine; what follows are its arguments' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l new-session -d 'Begin a new session'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -l no-stdin -d 'Leave standard input alone'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l session -d 'Session, by its id or a short name such as `ticket-8421` [default: the project\'s last one]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l qualifier -d 'Endpoint of the runtime' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l timeout -d 'Longest wait until it is known to be down [default: 75s]' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -l all -d 'Every session that this project is known to have used and not stopped; in the emulator every live one'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -f -a "ls" -d 'List sessions, of every agent unless `--agent` names one'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -f -a "show" -d 'Show one session, with the use of its storage'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -f -a "stats" -d 'Show what persistence did: resumes, what they found, times to the first answer, resets'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -f -a "rm" -d 'End sessions and delete their storage'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from session" -f -a "prune" -d 'Forget expired sessions and delete storage that a new version replaced'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -f -a "show" -d 'Show the emulator\'s time'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -f -a "advance" -d 'Move it ahead, such as by 16m: idle sessions stop, old storage expires'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from clock" -f -a "reset" -d 'Back to real time'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -l isolation -d 'What keeps sessions apart [default: namespaces]; `process` is a last resort where the system denies them' -r -f -a "namespaces\t'Namespaces of this Linux host, a filter of calls, and limits'
process\t'Nothing: agents are processes of yours, with a home and a port of their own'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -l home -d 'The emulator\'s state directory [env: AGENTCORE_HOME] [default: agentcore in the user\'s data directory]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand local; and __fish_seen_subcommand_from demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and not __fish_seen_subcommand_from id" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and not __fish_seen_subcommand_from id" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and not __fish_seen_subcommand_from id" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and not __fish_seen_subcommand_from id" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and not __fish_seen_subcommand_from id" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and not __fish_seen_subcommand_from id" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and not __fish_seen_subcommand_from id" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and not __fish_seen_subcommand_from id" -f -a "id" -d 'Print the session id that a short name stands for, for use in scripts'
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and __fish_seen_subcommand_from id" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and __fish_seen_subcommand_from id" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and __fish_seen_subcommand_from id" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and __fish_seen_subcommand_from id" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and __fish_seen_subcommand_from id" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and __fish_seen_subcommand_from id" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand session; and __fish_seen_subcommand_from id" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand doctor" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand doctor" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand doctor" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand doctor" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand doctor" -l fix -d 'Write the AppArmor profile that lets this program make sessions (needs root)'
complete -c agentcore -n "__fish_agentcore_using_subcommand doctor" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand doctor" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand completions" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand completions" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand completions" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand completions" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand completions" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand completions" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentcore -n "__fish_agentcore_using_subcommand demo-agent" -l output -d 'How results are written to standard output' -r -f -a "text\t'For people'
json\t'JSON; a line for each event where a command streams'"
complete -c agentcore -n "__fish_agentcore_using_subcommand demo-agent" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c agentcore -n "__fish_agentcore_using_subcommand demo-agent" -l config -d 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]' -r -F
complete -c agentcore -n "__fish_agentcore_using_subcommand demo-agent" -l agent -d 'Agent of the project' -r
complete -c agentcore -n "__fish_agentcore_using_subcommand demo-agent" -s q -l quiet -d 'Say less on standard error'
complete -c agentcore -n "__fish_agentcore_using_subcommand demo-agent" -s v -l verbose -d 'Say more on standard error; twice for more'
complete -c agentcore -n "__fish_agentcore_using_subcommand demo-agent" -s h -l help -d 'Print help (see more with \'--help\')'
