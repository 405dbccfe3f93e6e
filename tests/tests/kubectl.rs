//! kubectl against two apiservers in turn, over a three-replica store: what one
//! server wrote, the other shows. With every kubectl that is there: the one on
//! the PATH and those in the folder that `MIZZEN_REFERENCE_DIR` names.

use std::cell::Cell;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use serde_json::{Value, json};

struct Kubectl<'a> {
    program: PathBuf,
    servers: &'a [ApiServer],
    turn: Cell<usize>,
    namespace: String,
}

struct Printed {
    success: bool,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Kubectl<'_> {
    fn run(&self, arguments: &[&str], input: &str) -> Result<(Printed, String)> {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        let server = &self.servers[turn % self.servers.len()];
        let mut command = Command::new(&self.program);
        command
            .env("KUBECONFIG", server.kubeconfig())
            .env("KUBECACHEDIR", server.directory().join("cache"))
            // `edit` calls it with the file as its last argument.
            .env("KUBE_EDITOR", "sed -i s/redis:2/redis:3/")
            .arg("--namespace")
            .arg(&self.namespace)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let printed = Printed {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        };
        let line = format!(
            "KUBECONFIG={} {} --namespace {} {}",
            server.kubeconfig().display(),
            self.program.display(),
            self.namespace,
            arguments.join(" ")
        );
        Ok((printed, line))
    }

    /// The output of a command that must succeed, with this input.
    fn fed(&self, arguments: &str, input: &str) -> Result<String> {
        self.ok(&arguments.split(' ').collect::<Vec<_>>(), input)
    }

    fn ok(&self, arguments: &[&str], input: &str) -> Result<String> {
        let (printed, line) = self.run(arguments, input)?;
        ensure!(
            printed.success,
            "{line}: {}{}",
            printed.stdout,
            printed.stderr
        );
        Ok(printed.stdout)
    }

    /// A command whose words have no spaces must succeed and print all of these.
    fn prints(&self, arguments: &str, expected: &[&str]) -> Result<String> {
        self.words(&arguments.split(' ').collect::<Vec<_>>(), expected)
    }

    fn words(&self, arguments: &[&str], expected: &[&str]) -> Result<String> {
        let (printed, line) = self.run(arguments, "")?;
        ensure!(
            printed.success,
            "{line}: {}{}",
            printed.stdout,
            printed.stderr
        );
        for text in expected {
            ensure!(
                printed.stdout.contains(text),
                "{line} printed no {text:?}:\n{}",
                printed.stdout
            );
        }
        Ok(printed.stdout)
    }

    /// A command must fail and say all of these.
    fn fails(&self, arguments: &str, input: &str, expected: &[&str]) -> Result<()> {
        let (printed, line) = self.run(&arguments.split(' ').collect::<Vec<_>>(), input)?;
        ensure!(
            printed.code == Some(1),
            "{line} ended with {:?}: {}",
            printed.code,
            printed.stdout
        );
        for text in expected {
            ensure!(
                printed.stderr.contains(text),
                "{line} did not say {text:?}: {}",
                printed.stderr
            );
        }
        Ok(())
    }

    fn json(&self, arguments: &str) -> Result<Value> {
        let text = self.prints(&format!("{arguments} -o json"), &[])?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Every kubectl that is there and reads OpenAPI v3.
fn kubectls() -> Vec<PathBuf> {
    let mut found = cluster::find_tool("kubectl");
    found.extend(of_minors(27..60));
    found.dedup();
    found
}

fn of_minors(minors: std::ops::Range<u32>) -> impl Iterator<Item = PathBuf> {
    minors.flat_map(|minor| cluster::find_tool(&format!("kubectl-1.{minor}")))
}

#[tokio::test]
async fn kubectl() -> Result<()> {
    let programs = kubectls();
    if programs.is_empty() {
        println!("skipped: no kubectl on the PATH or beside the reference");
        return Ok(());
    }
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let endpoints = cluster.endpoints();
        let servers = [ApiServer::start(&endpoints)?, ApiServer::start(&endpoints)?];
        for (index, program) in programs.into_iter().enumerate() {
            let kubectl = Kubectl {
                program,
                servers: &servers,
                turn: Cell::new(0),
                namespace: format!("test-{index}"),
            };
            let version = kubectl.json("version")?;
            println!("kubectl {}", version["clientVersion"]["gitVersion"]);
            namespaces(&kubectl)?;
            reading(&kubectl)?;
            config_maps(&kubectl)?;
            creating(&kubectl)?;
            applying(&kubectl)?;
            patching(&kubectl)?;
            rolling_out(&kubectl)?;
            watching(&kubectl)?;
            deleting(&kubectl)?;
        }
        for program in of_minors(20..27) {
            let kubectl = Kubectl {
                program,
                servers: &servers,
                turn: Cell::new(0),
                namespace: "old".to_owned(),
            };
            before_openapi_v3(&kubectl)?;
        }
        Ok(())
    })
    .await
}

fn namespaces(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("get namespaces", &["default", "kube-system", "Active"])?;
    kubectl.fails("create configmap early", "", &["namespaces", "not found"])?;
    let name = kubectl.namespace.clone();
    kubectl.prints(
        &format!("create namespace {name}"),
        &[&format!("namespace/{name} created")],
    )?;
    kubectl.fails(&format!("create namespace {name}"), "", &["already exists"])
}

fn reading(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "api-resources",
        &[
            "deploy ",
            "apps/v1",
            "PersistentVolumeClaim",
            "resource.k8s.io/v1",
        ],
    )?;
    kubectl.prints("api-versions", &["apps/v1", "storage.k8s.io/v1", "v1"])?;
    kubectl.prints(
        "explain deployment.spec.strategy",
        &["rollingUpdate", "FIELD: strategy"],
    )?;
    kubectl.prints("explain pod --recursive", &["containerPort", "mountPath"])?;
    kubectl.prints("auth can-i create pods", &["yes"])?;
    kubectl.prints("auth can-i --list", &["*.*", "[*]"])?;
    kubectl.prints(
        "api-resources --namespaced=false -o name",
        &["nodes\n", "clusterroles.rbac.authorization.k8s.io\n"],
    )?;
    kubectl.prints("auth whoami", &["system:admin"])?;
    kubectl.prints("get --raw /readyz", &["ok"])?;
    kubectl.prints("cluster-info", &["is running at"])?;
    kubectl.fails(
        "get configmap nothing",
        "",
        &["(NotFound)", "\"nothing\" not found"],
    )?;
    kubectl.fails(
        "get pods --field-selector spec.image=a",
        "",
        &["field label not supported"],
    )
}

/// What rests on OpenAPI v2, by a kubectl that knows no other.
fn before_openapi_v3(kubectl: &Kubectl<'_>) -> Result<()> {
    let version = kubectl.json("version")?;
    println!("kubectl {}", version["clientVersion"]["gitVersion"]);
    kubectl.prints("create namespace old", &["namespace/old created"])?;
    kubectl.prints(
        "explain deployment.spec.strategy",
        &["rollingUpdate", "RESOURCE: strategy"],
    )?;
    kubectl.prints("explain pod --recursive", &["containerPort", "mountPath"])?;
    let map = r#"{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m"}, "data": {"image": "redis:2"}}"#;
    kubectl.fails(
        "apply --validate=true -f -",
        &map.replace("\"data\"", "\"dataa\""),
        &["unknown field", "dataa"],
    )?;
    let text = kubectl.fed("apply -f -", map)?;
    ensure!(text == "configmap/m created\n", "{text}");
    let text = kubectl.fed("apply -f -", map)?;
    ensure!(text == "configmap/m unchanged\n", "{text}");
    let changed = map.replace("redis:2", "redis:4");
    let (printed, line) = kubectl.run(&["diff", "-f", "-"], &changed)?;
    ensure!(
        printed.code == Some(1) && printed.stdout.contains("redis:4"),
        "{line}: {}{}",
        printed.stdout,
        printed.stderr
    );
    kubectl.prints("edit configmap m", &["configmap/m edited"])?;
    kubectl.prints("get configmap m -o jsonpath={.data.image}", &["redis:3"])?;
    kubectl.prints("create deployment d --image=a", &["d created"])?;
    kubectl.prints("set image deployment/d a=b", &["image updated"])?;
    kubectl.prints("delete namespace old --wait=false", &["deleted"])?;
    Ok(())
}

fn config_maps(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "create configmap a --from-literal=x=y",
        &["configmap/a created"],
    )?;
    kubectl.prints("label configmap a tier=front", &["configmap/a labeled"])?;
    kubectl.prints(
        "annotate configmap a why=because",
        &["configmap/a annotated"],
    )?;
    kubectl.fails("label configmap a tier=back", "", &["already has a value"])?;
    kubectl.prints("label configmap a tier=back --overwrite", &["labeled"])?;
    kubectl.prints("get configmaps -l tier=back -o name", &["configmap/a"])?;
    let none = kubectl.prints("get configmaps -l tier=front -o name", &[])?;
    ensure!(none.is_empty(), "the old label still selects: {none}");
    kubectl.prints(
        "get configmaps --field-selector metadata.name=a -o yaml",
        &["x: \"y\"", "why: because"],
    )?;
    kubectl.prints("get configmaps -A -o wide", &["NAMESPACE", "DATA", "AGE"])?;
    kubectl.prints("describe configmap a", &["x:", "tier=back"])?;
    let two =
        r#"{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "strict"}, "dataa": {}}"#;
    kubectl.fails(
        "create -f -",
        two,
        &["strict decoding error", "unknown field \"dataa\""],
    )?;
    let forms = kubectl.fed(
        "create -f - --dry-run=server -o name",
        &two.replace("dataa", "data"),
    )?;
    ensure!(forms == "configmap/strict\n", "{forms}");
    kubectl.fails("get configmap strict", "", &["not found"])
}

/// Kinds that are served in two versions.
fn autoscaling(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl
        .prints(
            "autoscale deployment web --min=2 --max=4 --cpu-percent=70",
            &["autoscaled"],
        )
        .or_else(|_| {
            // The newest have another flag for it.
            kubectl.prints(
                "autoscale deployment web --min=2 --max=4 --cpu=70%",
                &["autoscaled"],
            )
        })?;
    kubectl.prints("get hpa web", &["Deployment/web", "2", "4"])?;
    let path = "{.spec.targetCPUUtilizationPercentage}";
    kubectl.prints(
        &format!("get horizontalpodautoscalers.v1.autoscaling web -o jsonpath={path}"),
        &["70"],
    )?;
    kubectl.prints(
        "patch horizontalpodautoscalers.v1.autoscaling web -p {\"spec\":{\"targetCPUUtilizationPercentage\":60}}",
        &["patched"],
    )?;
    let path = "{.spec.metrics[0].resource.target.averageUtilization}";
    kubectl.prints(
        &format!("get horizontalpodautoscalers.v2.autoscaling web -o jsonpath={path}"),
        &["60"],
    )?;
    kubectl.prints(
        "get horizontalpodautoscalers.v1.autoscaling",
        &["Deployment/web"],
    )?;
    kubectl.prints("get events.events.k8s.io", &[])?;
    kubectl.prints(
        "delete horizontalpodautoscalers.v1.autoscaling web",
        &["deleted"],
    )?;
    Ok(())
}

fn creating(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "create deployment web --image=nginx:1 --replicas=2",
        &["deployment.apps/web created"],
    )?;
    kubectl.prints(
        "create service clusterip web --tcp=80:8080",
        &["service/web created"],
    )?;
    kubectl.prints("get service web", &["ClusterIP", "10.", "80/TCP"])?;
    kubectl.prints(
        "expose deployment web --name=outside --port=80 --type=NodePort",
        &["service/outside exposed"],
    )?;
    let service = kubectl.json("get service outside")?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64();
    ensure!(
        port.is_some_and(|port| (30_000..=32_767).contains(&port)),
        "no node port: {service}"
    );
    let address = service["spec"]["clusterIP"]
        .as_str()
        .context("an address")?;
    kubectl.prints(&format!("get ipaddress {address} -o name"), &[address])?;
    kubectl.fails(
        &format!("create service clusterip twin --tcp=80 --clusterip={address}"),
        "",
        &["provided IP is already allocated"],
    )?;
    kubectl.prints("delete service outside", &["deleted"])?;
    kubectl.fails(&format!("get ipaddress {address}"), "", &["not found"])?;
    autoscaling(kubectl)?;
    kubectl.prints(
        "create secret generic s --from-literal=password=p",
        &["secret/s created"],
    )?;
    kubectl.prints("get secret s -o jsonpath={.data.password}", &["cA=="])?;
    kubectl.prints(
        "create job once --image=busybox",
        &["job.batch/once created"],
    )?;
    let job = kubectl.json("get job once")?;
    ensure!(
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"]
            == job["metadata"]["uid"],
        "the job selects nothing: {job}"
    );
    kubectl.words(
        &[
            "create",
            "cronjob",
            "c",
            "--image=busybox",
            "--schedule=*/5 * * * *",
        ],
        &["cronjob.batch/c created"],
    )?;
    kubectl.prints(
        "create role r --verb=get --resource=pods",
        &["role.rbac.authorization.k8s.io/r created"],
    )?;
    kubectl.prints(
        "create rolebinding rb --role=r --user=u",
        &["rolebinding.rbac.authorization.k8s.io/rb created"],
    )?;
    kubectl.prints("create serviceaccount sa", &["serviceaccount/sa created"])?;
    kubectl.prints("create quota q --hard=pods=3", &["resourcequota/q created"])?;
    kubectl.prints(
        "create poddisruptionbudget pdb --selector=app=web --min-available=1",
        &["poddisruptionbudget.policy/pdb created"],
    )?;
    kubectl.prints("run p --image=nginx", &["pod/p created"])?;
    kubectl.prints("get pods -o wide", &["p ", "0/1", "Pending", "<none>"])?;
    forms(kubectl)?;
    tokens(kubectl)?;
    kubectl.prints("describe pod p", &["Image:", "nginx"])?;
    kubectl.prints("describe deployment web", &["2 desired", "RollingUpdate"])?;
    kubectl.prints("scale deployment web --replicas=5", &["web scaled"])?;
    kubectl.prints("get deployment web", &["0/5"])?;
    kubectl.fails(
        "scale deployment web --current-replicas=1 --replicas=9",
        "",
        &["Expected replicas to be 1"],
    )?;
    kubectl.prints("set image deployment/web nginx=nginx:2", &["image updated"])?;
    kubectl.prints(
        "get all",
        &["deployment.apps/web", "job.batch/once", "pod/p"],
    )?;
    let pod = r#"{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "No"}, "spec": {"containers": []}}"#;
    kubectl.fails(
        "create -f -",
        pod,
        &[
            "is invalid",
            "metadata.name",
            "spec.containers: Required value",
        ],
    )
}

/// What `get` and `describe` make of the same objects.
fn forms(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("get pods", &["NAME", "READY", "STATUS", "RESTARTS", "AGE"])?;
    kubectl.prints("get pod p --show-labels", &["LABELS", "run=p"])?;
    kubectl.prints("get pods -L run", &["RUN"])?;
    kubectl.prints("get pod p -o yaml", &["kind: Pod", "restartPolicy: Always"])?;
    let name = kubectl.prints("get pod/p -o name", &[])?;
    ensure!(name == "pod/p\n", "{name}");
    let columns = kubectl.prints(
        "get pod p --no-headers -o custom-columns=N:.metadata.name,P:.status.phase",
        &[],
    )?;
    ensure!(columns.split_whitespace().eq(["p", "Pending"]), "{columns}");
    let none = kubectl.prints(
        "get pods --field-selector status.phase=Running -o name",
        &[],
    )?;
    ensure!(none.is_empty(), "{none}");
    kubectl.prints(
        "get deployments,services,secrets",
        &["deployment.apps/web", "service/web", "secret/s"],
    )?;
    for name in ["z", "y"] {
        kubectl.prints(&format!("create serviceaccount {name}"), &["created"])?;
    }
    let sorted = kubectl.prints(
        "get serviceaccounts --chunk-size=1 --sort-by=.metadata.name -o name",
        &[],
    )?;
    ensure!(
        sorted == "serviceaccount/sa\nserviceaccount/y\nserviceaccount/z\n",
        "{sorted}"
    );
    // A port of the nodes belongs to one service, whatever its namespace.
    let port = format!("3008{}", kubectl.namespace.trim_start_matches("test-"));
    kubectl.prints(
        &format!("create service nodeport np --tcp=80 --node-port={port}"),
        &["service/np created"],
    )?;
    kubectl.prints("describe service np", &["NodePort", &port])?;
    kubectl.prints(
        "create service externalname out --external-name example.org",
        &["service/out created"],
    )?;
    kubectl.prints("get service out", &["ExternalName", "example.org"])?;
    kubectl.prints("describe secret s", &["Opaque", "password:  1 bytes"])?;
    kubectl.prints("describe job once", &["Completions:", "busybox"])?;
    let namespace = &kubectl.namespace;
    kubectl.prints(
        &format!("describe namespace {namespace}"),
        &["Status:", "Active", "Resource Quotas"],
    )?;
    Ok(())
}

fn tokens(kubectl: &Kubectl<'_>) -> Result<()> {
    let token = kubectl.prints("create token sa --duration=20m", &[])?;
    ensure!(
        token.trim().split('.').count() == 3,
        "no JSON web token: {token}"
    );
    kubectl.fails(
        "create token sa --duration=1m",
        "",
        &["may not specify a duration less than 10 minutes"],
    )?;
    kubectl.fails("create token nobody", "", &["\"nobody\" not found"])?;
    kubectl.fails(
        "create token sa --bound-object-kind=Pod --bound-object-name=p",
        "",
        &["different serviceaccount name"],
    )?;
    let request =
        kubectl.json("create token sa --bound-object-kind=Secret --bound-object-name=s")?;
    let status = &request["status"];
    ensure!(
        status["token"].is_string() && status["expirationTimestamp"].is_string(),
        "{request}"
    );
    kubectl.prints("get --raw /openid/v1/jwks", &["\"P-256\""])?;
    Ok(())
}

fn applied(image: &str, replicas: u32) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "labels": {"a": "b"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "x"}}, "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [
                {"name": "c", "image": image, "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": "500m"}}},
                {"name": "d", "image": "redis:1"}]}}},
    })
    .to_string()
}

fn applying(kubectl: &Kubectl<'_>) -> Result<()> {
    let first = applied("nginx:1", 3);
    let steps = [
        (first.clone(), "created"),
        (first, "unchanged"),
        (applied("nginx:2", 4), "configured"),
    ];
    for (file, expected) in &steps {
        let printed = kubectl.fed("apply -f -", file)?;
        ensure!(
            printed == format!("deployment.apps/app {expected}\n"),
            "{printed}"
        );
    }
    let (printed, line) = kubectl.run(&["diff", "-f", "-"], &applied("nginx:3", 4))?;
    ensure!(
        printed.code == Some(1)
            && printed.stdout.contains("-        image: nginx:2")
            && printed.stdout.contains("+        image: nginx:3"),
        "{line}: {}{}",
        printed.stdout,
        printed.stderr
    );
    let (printed, line) = kubectl.run(&["diff", "-f", "-"], &applied("nginx:2", 4))?;
    ensure!(
        printed.success && printed.stdout.is_empty(),
        "{line}: {}",
        printed.stdout
    );
    Ok(())
}

fn patching(kubectl: &Kubectl<'_>) -> Result<()> {
    let images = || {
        kubectl.prints(
            "get deployment app -o jsonpath={.spec.replicas},{.spec.template.spec.containers[*].image}",
            &[],
        )
    };
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"d","image":"redis:2"}]}}}}"#;
    kubectl.words(
        &["patch", "deployment", "app", "-p", strategic],
        &["patched"],
    )?;
    let merge = r#"{"spec":{"replicas":7}}"#;
    kubectl.words(
        &["patch", "deployment", "app", "--type=merge", "-p", merge],
        &["patched"],
    )?;
    ensure!(images()? == "7,nginx:2 redis:2", "{}", images()?);
    let operations = r#"[{"op":"test","path":"/spec/replicas","value":7},{"op":"replace","path":"/spec/replicas","value":8}]"#;
    kubectl.words(
        &[
            "patch",
            "deployment",
            "app",
            "--type=json",
            "-p",
            operations,
        ],
        &["patched"],
    )?;
    kubectl.fails(
        &format!("patch deployment app --type=json -p {operations}"),
        "",
        &["testing value"],
    )?;
    kubectl.prints("edit deployment app", &["edited"])?;
    ensure!(images()? == "8,nginx:2 redis:3", "{}", images()?);
    kubectl.fails(
        r#"patch deployment app -p {"spec":{"selector":{"matchLabels":{"x":"y"}}}}"#,
        "",
        &["field is immutable"],
    )?;
    let status = r#"{"status":{"readyReplicas":1,"replicas":1}}"#;
    kubectl.words(
        &[
            "patch",
            "deployment",
            "app",
            "--subresource=status",
            "--type=merge",
            "-p",
            status,
        ],
        &["patched"],
    )?;
    kubectl.prints("get deployment app", &["1/8"])?;
    let stale = kubectl.json("get deployment app")?.to_string();
    kubectl.prints("label deployment app x=y", &["labeled"])?;
    kubectl.fails("replace -f -", &stale, &["the object has been modified"])
}

/// A replica set as the deployment controller would make it.
fn replica_set(deployment: &Value, revision: u32, image: &str) -> String {
    let name = format!("app-{revision}");
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "labels": {"app": "x", "pod-template-hash": name},
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "app",
                "uid": deployment["metadata"]["uid"], "controller": true}]},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "x", "pod-template-hash": name}}, "template": {
            "metadata": {"labels": {"app": "x", "pod-template-hash": name}},
            "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
    .to_string()
}

fn rolling_out(kubectl: &Kubectl<'_>) -> Result<()> {
    let deployment = kubectl.json("get deployment app")?;
    for (revision, image) in [(1, "nginx:old"), (2, "nginx:new")] {
        kubectl.fed("create -f -", &replica_set(&deployment, revision, image))?;
    }
    kubectl.prints(
        "annotate deployment app deployment.kubernetes.io/revision=2 --overwrite",
        &["annotated"],
    )?;
    kubectl.prints("rollout history deployment app", &["REVISION", "1 ", "2 "])?;
    kubectl.prints(
        "rollout history deployment app --revision=1",
        &["nginx:old"],
    )?;
    kubectl.prints("rollout undo deployment app", &["rolled back"])?;
    kubectl.prints(
        "get deployment app -o jsonpath={.spec.template.spec.containers[0].image}",
        &["nginx:old"],
    )?;
    kubectl.prints(
        "rollout undo deployment app --to-revision=2",
        &["rolled back"],
    )?;
    kubectl.prints(
        "get deployment app -o jsonpath={.spec.template.spec.containers[0].image}",
        &["nginx:new"],
    )?;
    kubectl.prints("rollout pause deployment app", &["paused"])?;
    kubectl.prints("rollout resume deployment app", &["resumed"])?;
    kubectl.prints("rollout restart deployment app", &["restarted"])?;
    // Nobody rolls it out here: the test reports what a controller would.
    kubectl.fails(
        "rollout status deployment app --timeout=1s",
        "",
        &["timed out"],
    )?;
    let generation = &kubectl.json("get deployment app")?["metadata"]["generation"];
    let status =
        json!({"status": {"observedGeneration": generation, "replicas": 8, "updatedReplicas": 8,
        "availableReplicas": 8, "readyReplicas": 8,
        "conditions": [{"type": "Available", "status": "True", "reason": "r", "message": "m"}]}})
        .to_string();
    kubectl.words(
        &[
            "patch",
            "deployment",
            "app",
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ],
        &["patched"],
    )?;
    kubectl.prints(
        "rollout status deployment app --timeout=30s",
        &["successfully rolled out"],
    )?;
    kubectl.prints(
        "wait --for=condition=Available deployment/app --timeout=30s",
        &["condition met"],
    )?;
    Ok(())
}

fn watching(kubectl: &Kubectl<'_>) -> Result<()> {
    let mut watch = Command::new(&kubectl.program)
        .env("KUBECONFIG", kubectl.servers[0].kubeconfig())
        .args(["--namespace", &kubectl.namespace])
        .args(["get", "secrets", "--watch", "--output-watch-events", "-o"])
        .arg("jsonpath={.type}{\" \"}{.object.metadata.name}{\"\\n\"}")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = watch.stdout.take().context("stdout")?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    let mut next = || lines.next().context("the watch ended")?.context("a line");
    let mut expect = |expected: &str| -> Result<()> {
        let line = next()?;
        ensure!(
            line == expected,
            "the watch printed {line:?}, expected {expected:?}"
        );
        Ok(())
    };
    let result = (|| {
        expect("ADDED s")?;
        kubectl.prints("create secret generic t", &["created"])?;
        expect("ADDED t")?;
        kubectl.prints("label secret t a=b", &["labeled"])?;
        expect("MODIFIED t")?;
        kubectl.prints("delete secret t", &["deleted"])?;
        expect("DELETED t")
    })();
    watch.kill()?;
    watch.wait()?;
    result?;
    kubectl.prints(
        "wait --for=jsonpath={.data.x}=y configmap/a --timeout=30s",
        &["condition met"],
    )?;
    Ok(())
}

fn deleting(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("delete pod p", &["\"p\" deleted"])?;
    kubectl.prints("delete deployment web --cascade=background", &["deleted"])?;
    kubectl.fails("get deployment web", "", &["not found"])?;
    // Nobody collects here: the object waits for who removes the finalizer.
    for (cascade, finalizer) in [("orphan", "orphan"), ("foreground", "foregroundDeletion")] {
        kubectl.prints(
            &format!("delete deployment app --wait=false --cascade={cascade}"),
            &["deleted"],
        )?;
        kubectl.prints(
            "get deployment app -o jsonpath={.metadata.finalizers[*]}",
            &[finalizer],
        )?;
        kubectl.prints("get replicaset app-1 -o name", &["replicaset.apps/app-1"])?;
        kubectl.words(
            &[
                "patch",
                "deployment",
                "app",
                "--type=merge",
                "-p",
                r#"{"metadata":{"finalizers":null}}"#,
            ],
            &["patched"],
        )?;
        kubectl.fails("get deployment app", "", &["not found"])?;
        kubectl.fed("apply -f -", &applied("nginx:1", 1))?;
    }
    kubectl.prints("delete deployment app --cascade=background", &["deleted"])?;
    kubectl.prints("wait --for=delete deployment/app --timeout=30s", &[])?;
    kubectl.prints("delete replicasets -l app=x", &["\"app-1\"", "\"app-2\""])?;
    kubectl.prints(
        "delete job once --cascade=orphan --wait=false",
        &["deleted"],
    )?;
    kubectl.fails("delete pod p", "", &["(NotFound)"])?;
    kubectl.prints("delete pod p --ignore-not-found", &[])?;
    kubectl.prints("delete configmaps --all", &["\"a\" deleted"])?;
    kubectl.prints("delete secrets --all", &["\"s\" deleted"])?;
    let name = &kubectl.namespace;
    kubectl.prints(
        &format!("delete namespace {name} --wait=false"),
        &["deleted"],
    )?;
    kubectl.prints(&format!("get namespace {name}"), &["Terminating"])?;
    kubectl.fails("create configmap late", "", &["being terminated"])?;
    let finalized =
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}, "spec": {}});
    kubectl.fed(
        &format!("replace --raw /api/v1/namespaces/{name}/finalize -f -"),
        &finalized.to_string(),
    )?;
    kubectl.fails(&format!("get namespace {name}"), "", &["not found"])
}
