
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'agentcore' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'agentcore'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'agentcore' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('create', 'create', [CompletionResultType]::ParameterValue, 'Make a new project')
            [CompletionResult]::new('configure', 'configure', [CompletionResultType]::ParameterValue, 'Write or change the project file: by questions on a terminal, or by flags alone')
            [CompletionResult]::new('invoke', 'invoke', [CompletionResultType]::ParameterValue, 'A verb with the options that place it in AWS')
            [CompletionResult]::new('exec', 'exec', [CompletionResultType]::ParameterValue, 'A verb with the options that place it in AWS')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'A verb with the options that place it in AWS')
            [CompletionResult]::new('local', 'local', [CompletionResultType]::ParameterValue, 'Run agents offline, in the emulator')
            [CompletionResult]::new('session', 'session', [CompletionResultType]::ParameterValue, 'Short names of sessions')
            [CompletionResult]::new('doctor', 'doctor', [CompletionResultType]::ParameterValue, 'Check what this machine has for running sessions, and say what fixes what it lacks')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print the completion script of a shell')
            [CompletionResult]::new('demo-agent', 'demo-agent', [CompletionResultType]::ParameterValue, 'The agent of `local demo`')
            break
        }
        'agentcore;create' {
            [CompletionResult]::new('--template', '--template', [CompletionResultType]::ParameterName, 'What to begin with')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;configure' {
            [CompletionResult]::new('-e', '-e', [CompletionResultType]::ParameterName, 'File that the agent begins with, or its directory')
            [CompletionResult]::new('--entrypoint', '--entrypoint', [CompletionResultType]::ParameterName, 'File that the agent begins with, or its directory')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Name of the agent: changes it where there is one, else adds it')
            [CompletionResult]::new('--name', '--name', [CompletionResultType]::ParameterName, 'Name of the agent: changes it where there is one, else adds it')
            [CompletionResult]::new('--command', '--command', [CompletionResultType]::ParameterName, 'How an agent that is no Python file is started, such as "node server.js"')
            [CompletionResult]::new('--deployment-type', '--deployment-type', [CompletionResultType]::ParameterName, 'An archive in S3, or an image in ECR')
            [CompletionResult]::new('--runtime', '--runtime', [CompletionResultType]::ParameterName, 'Runtime of an archive, such as PYTHON_3_13')
            [CompletionResult]::new('--region', '--region', [CompletionResultType]::ParameterName, 'AWS region')
            [CompletionResult]::new('--account', '--account', [CompletionResultType]::ParameterName, 'AWS account, twelve digits')
            [CompletionResult]::new('--execution-role', '--execution-role', [CompletionResultType]::ParameterName, 'Execution role: `auto`, an ARN, or a name in the account')
            [CompletionResult]::new('--ecr', '--ecr', [CompletionResultType]::ParameterName, 'ECR repository: `auto`, a URI or a name')
            [CompletionResult]::new('--s3', '--s3', [CompletionResultType]::ParameterName, 'S3 location of archives: `auto`, or s3://BUCKET/PREFIX')
            [CompletionResult]::new('--container-runtime', '--container-runtime', [CompletionResultType]::ParameterName, 'Container tool')
            [CompletionResult]::new('--authorizer-config', '--authorizer-config', [CompletionResultType]::ParameterName, 'Authorizer as the API takes it, such as {"customJWTAuthorizer": {…}}; `none` for IAM')
            [CompletionResult]::new('--request-header-allowlist', '--request-header-allowlist', [CompletionResultType]::ParameterName, 'Request headers that reach the agent, with commas between them; empty for none')
            [CompletionResult]::new('--protocol', '--protocol', [CompletionResultType]::ParameterName, 'Protocol of the agent')
            [CompletionResult]::new('--subnets', '--subnets', [CompletionResultType]::ParameterName, 'Subnets of the VPC, with commas between them')
            [CompletionResult]::new('--security-groups', '--security-groups', [CompletionResultType]::ParameterName, 'Security groups of the VPC, with commas between them')
            [CompletionResult]::new('--idle-timeout', '--idle-timeout', [CompletionResultType]::ParameterName, 'Idle time after which a session stops, such as 15m')
            [CompletionResult]::new('--max-lifetime', '--max-lifetime', [CompletionResultType]::ParameterName, 'Longest life of a session''s compute, such as 8h')
            [CompletionResult]::new('--session-storage', '--session-storage', [CompletionResultType]::ParameterName, 'Where sessions find their storage, such as /mnt/workspace; `none` for no storage')
            [CompletionResult]::new('--env', '--env', [CompletionResultType]::ParameterName, 'Environment variable of the agent')
            [CompletionResult]::new('--unset-env', '--unset-env', [CompletionResultType]::ParameterName, 'Environment variable to take away')
            [CompletionResult]::new('--tag', '--tag', [CompletionResultType]::ParameterName, 'Tag of the runtime')
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, 'Bedrock model that the agent may call; none named: every model')
            [CompletionResult]::new('--from', '--from', [CompletionResultType]::ParameterName, 'Take over a project of the npm tool: its directory, or its agentcore.json')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--vpc', '--vpc', [CompletionResultType]::ParameterName, 'Run in a VPC')
            [CompletionResult]::new('--no-vpc', '--no-vpc', [CompletionResultType]::ParameterName, 'Run outside of a VPC')
            [CompletionResult]::new('--disable-otel', '--disable-otel', [CompletionResultType]::ParameterName, 'Switch observability off')
            [CompletionResult]::new('--disable-memory', '--disable-memory', [CompletionResultType]::ParameterName, 'Switch AgentCore Memory off')
            [CompletionResult]::new('--default', '--default', [CompletionResultType]::ParameterName, 'Make the agent the default one')
            [CompletionResult]::new('--non-interactive', '--non-interactive', [CompletionResultType]::ParameterName, 'Ask nothing: take what is named, and good defaults')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Print the file as it would be, and write nothing')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List the agents of the project file')
            [CompletionResult]::new('show', 'show', [CompletionResultType]::ParameterValue, 'Show what the project file says of an agent, with the defaults')
            [CompletionResult]::new('set-default', 'set-default', [CompletionResultType]::ParameterValue, 'Make an agent the one that commands mean when they name none')
            break
        }
        'agentcore;configure;list' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;configure;show' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;configure;set-default' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;invoke' {
            [CompletionResult]::new('--arn', '--arn', [CompletionResultType]::ParameterName, 'Any runtime, by its ARN [default: the one that the project''s agent was deployed to]')
            [CompletionResult]::new('--region', '--region', [CompletionResultType]::ParameterName, 'AWS Region [default: the runtime''s own]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Profile of your AWS configuration')
            [CompletionResult]::new('--endpoint-url', '--endpoint-url', [CompletionResultType]::ParameterName, 'Where the service is instead of AWS''s own address [env: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, and with _CONTROL]')
            [CompletionResult]::new('--bearer-token', '--bearer-token', [CompletionResultType]::ParameterName, 'Token of the runtime''s identity provider instead of AWS credentials; @FILE reads one [env: AGENTCORE_BEARER_TOKEN]')
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Session, by its id or a short name such as `ticket-8421` [default: the project''s last one]')
            [CompletionResult]::new('--qualifier', '--qualifier', [CompletionResultType]::ParameterName, 'Endpoint of the runtime')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for the agent, where the runtime''s allowlist lets it through')
            [CompletionResult]::new('--user-id', '--user-id', [CompletionResultType]::ParameterName, 'End user on whose behalf the call is made')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Longest wait for the agent''s answer to begin [default: 15m]')
            [CompletionResult]::new('--content-type', '--content-type', [CompletionResultType]::ParameterName, 'Content type of the payload, which is then sent as it is')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--new-session', '--new-session', [CompletionResultType]::ParameterName, 'Begin a new session')
            [CompletionResult]::new('--raw', '--raw', [CompletionResultType]::ParameterName, 'Write server-sent events byte for byte instead of their data')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;exec' {
            [CompletionResult]::new('--arn', '--arn', [CompletionResultType]::ParameterName, 'Any runtime, by its ARN [default: the one that the project''s agent was deployed to]')
            [CompletionResult]::new('--region', '--region', [CompletionResultType]::ParameterName, 'AWS Region [default: the runtime''s own]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Profile of your AWS configuration')
            [CompletionResult]::new('--endpoint-url', '--endpoint-url', [CompletionResultType]::ParameterName, 'Where the service is instead of AWS''s own address [env: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, and with _CONTROL]')
            [CompletionResult]::new('--bearer-token', '--bearer-token', [CompletionResultType]::ParameterName, 'Token of the runtime''s identity provider instead of AWS credentials; @FILE reads one [env: AGENTCORE_BEARER_TOKEN]')
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Session, by its id or a short name; several with commas between them [default: the project''s last one]')
            [CompletionResult]::new('--qualifier', '--qualifier', [CompletionResultType]::ParameterName, 'Endpoint of the runtime')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'End the command after this time, 1s to 1h; the exit code is 124 then [default: 5m]')
            [CompletionResult]::new('--cwd', '--cwd', [CompletionResultType]::ParameterName, 'Directory to run it in')
            [CompletionResult]::new('--env', '--env', [CompletionResultType]::ParameterName, 'Variable of its environment')
            [CompletionResult]::new('--file', '--file', [CompletionResultType]::ParameterName, 'Run this script of your machine; what follows are its arguments')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--new-session', '--new-session', [CompletionResultType]::ParameterName, 'Begin a new session')
            [CompletionResult]::new('--no-stdin', '--no-stdin', [CompletionResultType]::ParameterName, 'Leave standard input alone')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;stop' {
            [CompletionResult]::new('--arn', '--arn', [CompletionResultType]::ParameterName, 'Any runtime, by its ARN [default: the one that the project''s agent was deployed to]')
            [CompletionResult]::new('--region', '--region', [CompletionResultType]::ParameterName, 'AWS Region [default: the runtime''s own]')
            [CompletionResult]::new('--profile', '--profile', [CompletionResultType]::ParameterName, 'Profile of your AWS configuration')
            [CompletionResult]::new('--endpoint-url', '--endpoint-url', [CompletionResultType]::ParameterName, 'Where the service is instead of AWS''s own address [env: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, and with _CONTROL]')
            [CompletionResult]::new('--bearer-token', '--bearer-token', [CompletionResultType]::ParameterName, 'Token of the runtime''s identity provider instead of AWS credentials; @FILE reads one [env: AGENTCORE_BEARER_TOKEN]')
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Session, by its id or a short name such as `ticket-8421` [default: the project''s last one]')
            [CompletionResult]::new('--qualifier', '--qualifier', [CompletionResultType]::ParameterName, 'Endpoint of the runtime')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Longest wait until it is known to be down [default: 75s]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Every session that this project is known to have used and not stopped; in the emulator every live one')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('up', 'up', [CompletionResultType]::ParameterValue, 'Start the emulator, in the background unless told otherwise')
            [CompletionResult]::new('down', 'down', [CompletionResultType]::ParameterValue, 'Stop every session with grace and end the emulator')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'Show whether the emulator runs; exits with 1 when it does not')
            [CompletionResult]::new('env', 'env', [CompletionResultType]::ParameterValue, 'Print the variables that point SDKs at the emulator: eval "$(agentcore local env)"')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'Show what agents wrote to standard output and error')
            [CompletionResult]::new('deploy', 'deploy', [CompletionResultType]::ParameterValue, 'Deploy the project''s agent to the emulator: a new version where anything changed')
            [CompletionResult]::new('invoke', 'invoke', [CompletionResultType]::ParameterValue, 'Call an agent in a session; its answer comes as it is sent')
            [CompletionResult]::new('exec', 'exec', [CompletionResultType]::ParameterValue, 'Run a command in a session, with its exit code as ours')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop a session and wait until its compute is known to be down; the next call resumes it')
            [CompletionResult]::new('session', 'session', [CompletionResultType]::ParameterValue, 'Look at and remove sessions')
            [CompletionResult]::new('clock', 'clock', [CompletionResultType]::ParameterValue, 'Show or move the emulator''s clock')
            [CompletionResult]::new('demo', 'demo', [CompletionResultType]::ParameterValue, 'Show the whole story: an agent writes a file, stops, resumes, and the file is there')
            break
        }
        'agentcore;local;up' {
            [CompletionResult]::new('--port', '--port', [CompletionResultType]::ParameterName, 'Port on the loopback interface [default: 8642, or a free one when that is taken]')
            [CompletionResult]::new('--engine', '--engine', [CompletionResultType]::ParameterName, 'What runs sessions')
            [CompletionResult]::new('--isolation', '--isolation', [CompletionResultType]::ParameterName, 'What keeps sessions apart [default: namespaces]; `process` is a last resort where the system denies them')
            [CompletionResult]::new('--grace', '--grace', [CompletionResultType]::ParameterName, 'Time between SIGTERM and SIGKILL when a session stops [default: 10s]')
            [CompletionResult]::new('--conflicts', '--conflicts', [CompletionResultType]::ParameterName, 'What a call meets while its session starts or stops [default: wait]')
            [CompletionResult]::new('--ready-delay', '--ready-delay', [CompletionResultType]::ParameterName, 'Time that a runtime stays CREATING or UPDATING [default: 100ms]')
            [CompletionResult]::new('--init-timeout', '--init-timeout', [CompletionResultType]::ParameterName, 'Longest time to an agent''s first healthy ping [default: 30s]')
            [CompletionResult]::new('--network', '--network', [CompletionResultType]::ParameterName, 'Whether sessions reach the network, through the emulator''s proxy [default: on]')
            [CompletionResult]::new('--network-allow', '--network-allow', [CompletionResultType]::ParameterName, 'Service of this machine that sessions may reach, as `host.docker.internal:PORT`: a model server for one; repeatable')
            [CompletionResult]::new('--aws-identity', '--aws-identity', [CompletionResultType]::ParameterName, 'AWS credentials that agents get: `none`, `profile NAME`, or `role` for each runtime''s own role [default: none]')
            [CompletionResult]::new('--region', '--region', [CompletionResultType]::ParameterName, 'Region in ARNs [default: us-west-2]')
            [CompletionResult]::new('--account', '--account', [CompletionResultType]::ParameterName, 'Account in ARNs [default: 000000000000]')
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--early-mount', '--early-mount', [CompletionResultType]::ParameterName, 'Show session storage from the start of a compute instead of from its first call')
            [CompletionResult]::new('--allow-agent-calls', '--allow-agent-calls', [CompletionResultType]::ParameterName, 'Let agents call the emulator: invoke and change every runtime, run commands in every session')
            [CompletionResult]::new('--foreground', '--foreground', [CompletionResultType]::ParameterName, 'Stay in the foreground until Ctrl-C')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Watch the project here, and restart its running sessions as soon as their code changes')
            [CompletionResult]::new('--detached', '--detached', [CompletionResultType]::ParameterName, 'Leave the terminal''s session')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;down' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;status' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;env' {
            [CompletionResult]::new('--shell', '--shell', [CompletionResultType]::ParameterName, 'Whose syntax to use')
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;logs' {
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Of this session only, by its id or short name')
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'Go on with new lines until Ctrl-C')
            [CompletionResult]::new('--follow', '--follow', [CompletionResultType]::ParameterName, 'Go on with new lines until Ctrl-C')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Of every agent, not of the project''s alone')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;deploy' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Make a new version although nothing changed')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;invoke' {
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Session, by its id or a short name such as `ticket-8421` [default: the project''s last one]')
            [CompletionResult]::new('--qualifier', '--qualifier', [CompletionResultType]::ParameterName, 'Endpoint of the runtime')
            [CompletionResult]::new('--header', '--header', [CompletionResultType]::ParameterName, 'Header for the agent, where the runtime''s allowlist lets it through')
            [CompletionResult]::new('--user-id', '--user-id', [CompletionResultType]::ParameterName, 'End user on whose behalf the call is made')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Longest wait for the agent''s answer to begin [default: 15m]')
            [CompletionResult]::new('--content-type', '--content-type', [CompletionResultType]::ParameterName, 'Content type of the payload, which is then sent as it is')
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--new-session', '--new-session', [CompletionResultType]::ParameterName, 'Begin a new session')
            [CompletionResult]::new('--raw', '--raw', [CompletionResultType]::ParameterName, 'Write server-sent events byte for byte instead of their data')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;exec' {
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Session, by its id or a short name; several with commas between them [default: the project''s last one]')
            [CompletionResult]::new('--qualifier', '--qualifier', [CompletionResultType]::ParameterName, 'Endpoint of the runtime')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'End the command after this time, 1s to 1h; the exit code is 124 then [default: 5m]')
            [CompletionResult]::new('--cwd', '--cwd', [CompletionResultType]::ParameterName, 'Directory to run it in')
            [CompletionResult]::new('--env', '--env', [CompletionResultType]::ParameterName, 'Variable of its environment')
            [CompletionResult]::new('--file', '--file', [CompletionResultType]::ParameterName, 'Run this script of your machine; what follows are its arguments')
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--new-session', '--new-session', [CompletionResultType]::ParameterName, 'Begin a new session')
            [CompletionResult]::new('--no-stdin', '--no-stdin', [CompletionResultType]::ParameterName, 'Leave standard input alone')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;stop' {
            [CompletionResult]::new('--session', '--session', [CompletionResultType]::ParameterName, 'Session, by its id or a short name such as `ticket-8421` [default: the project''s last one]')
            [CompletionResult]::new('--qualifier', '--qualifier', [CompletionResultType]::ParameterName, 'Endpoint of the runtime')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Longest wait until it is known to be down [default: 75s]')
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Every session that this project is known to have used and not stopped; in the emulator every live one')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;session' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('ls', 'ls', [CompletionResultType]::ParameterValue, 'List sessions, of every agent unless `--agent` names one')
            [CompletionResult]::new('show', 'show', [CompletionResultType]::ParameterValue, 'Show one session, with the use of its storage')
            [CompletionResult]::new('stats', 'stats', [CompletionResultType]::ParameterValue, 'Show what persistence did: resumes, what they found, times to the first answer, resets')
            [CompletionResult]::new('rm', 'rm', [CompletionResultType]::ParameterValue, 'End sessions and delete their storage')
            [CompletionResult]::new('prune', 'prune', [CompletionResultType]::ParameterValue, 'Forget expired sessions and delete storage that a new version replaced')
            break
        }
        'agentcore;local;session;ls' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;session;show' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;session;stats' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;session;rm' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;session;prune' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;clock' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('show', 'show', [CompletionResultType]::ParameterValue, 'Show the emulator''s time')
            [CompletionResult]::new('advance', 'advance', [CompletionResultType]::ParameterValue, 'Move it ahead, such as by 16m: idle sessions stop, old storage expires')
            [CompletionResult]::new('reset', 'reset', [CompletionResultType]::ParameterValue, 'Back to real time')
            break
        }
        'agentcore;local;clock;show' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;clock;advance' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;clock;reset' {
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;local;demo' {
            [CompletionResult]::new('--isolation', '--isolation', [CompletionResultType]::ParameterName, 'What keeps sessions apart [default: namespaces]; `process` is a last resort where the system denies them')
            [CompletionResult]::new('--home', '--home', [CompletionResultType]::ParameterName, 'The emulator''s state directory [env: AGENTCORE_HOME] [default: agentcore in the user''s data directory]')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;session' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('id', 'id', [CompletionResultType]::ParameterValue, 'Print the session id that a short name stands for, for use in scripts')
            break
        }
        'agentcore;session;id' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;doctor' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('--fix', '--fix', [CompletionResultType]::ParameterName, 'Write the AppArmor profile that lets this program make sessions (needs root)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;completions' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'agentcore;demo-agent' {
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How results are written to standard output')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Project file [default: .bedrock_agentcore.yaml here or in a directory above]')
            [CompletionResult]::new('--agent', '--agent', [CompletionResultType]::ParameterName, 'Agent of the project')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say less on standard error')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more on standard error; twice for more')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
