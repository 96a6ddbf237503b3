"""`kind: gke`: a JobSet on a Kubernetes cluster, one pod a host."""

import json
import shlex
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from jaxmerge.documents import write_yaml
from jaxmerge.launch.command import Command
from jaxmerge.launch.script import exports, script
from jaxmerge.launch.shell import Ending, Shell
from jaxmerge.launch.target import AGAIN, Name, Remote, Word
from jaxmerge.runtime.processes import COORDINATOR, PROCESS, PROCESSES
from jaxmerge.strict import Strict

PORT = 8476
JOB = "workers"
WEEK = "168h"


class Volume(Strict):
    """A claim that exists, mounted into every pod: where OUT lies outlives the pods."""

    claim: Name
    path: Annotated[str, StringConstraints(pattern=r"^/\S*$")]


class Secret(Strict):
    """A key of a Secret of the cluster; its value never passes through here."""

    secret: Name
    key: Word


class Gke(Remote):
    """hosts: pods. accelerator, topology: of a TPU slice, as its node pool is labelled; chips: of each host.
    gpus: of each host, instead. secrets: variables whose values the cluster holds."""

    kind: Literal["gke"]
    name: Name
    image: Word
    hosts: Annotated[int, Field(ge=1)] = 1
    namespace: Name | None = None
    context: Word | None = None
    accelerator: Word | None = None
    topology: Word | None = None
    chips: Annotated[int, Field(ge=1)] | None = None
    gpus: Annotated[int, Field(ge=1)] | None = None
    spot: bool = False
    service_account: Name | None = None
    secrets: dict[str, Secret] = Field(default_factory=dict)
    volumes: list[Volume] = Field(default_factory=list)

    @classmethod
    def remedy(cls) -> str:
        return "put it into a Secret of the cluster and name that under 'secrets'"

    def count(self) -> int:
        return self.hosts

    def attempt(self, command: Command, shell: Shell) -> Ending:
        # The cluster itself starts the pods again: maxRestarts below is `retries`.
        shell.run(self._kubectl("delete", "jobset", self.name, "--ignore-not-found", "--wait=true"))
        ending = shell.run(self._kubectl("apply", "-f", "-"), stdin=write_yaml(self.manifest(command)))
        if ending.code:
            return ending
        state = "jsonpath={.status.terminalState}"
        wait = self._kubectl("wait", f"jobset/{self.name}", f"--for={state}", f"--timeout={WEEK}")
        try:
            ending = shell.run(wait)
        except KeyboardInterrupt:
            shell.run(self._kubectl("delete", "jobset", self.name, "--ignore-not-found"))
            raise
        if ending.code:
            return ending
        end = shell.run(self._kubectl("get", "jobset", self.name, "-o", state), quiet=True).out
        return self._failure(shell) if end == "Failed" else Ending(0, self.name)

    def _failure(self, shell: Shell) -> Ending:
        chosen = f"--selector=jobset.sigs.k8s.io/jobset-name={self.name}"
        pods = shell.run(self._kubectl("get", "pods", chosen, "-o", "json"), quiet=True).out
        ends = sorted(_ends(json.loads(pods or "{}")))
        if not ends:
            return Ending(1, f"the JobSet '{self.name}'", ("its pods are gone: look into the cluster's logs",))
        _, code, pod = next((end for end in ends if end[1] != AGAIN), ends[0])
        logs = shell.run(self._kubectl("logs", pod, "--tail=20"), quiet=True).out
        return Ending(code, f"pod {pod}", tuple(logs.splitlines()))

    def manifest(self, command: Command) -> dict[str, Any]:
        """The JobSet as plain Python."""
        several: list[str] = []
        if self.hosts > 1:
            several = [
                f"export {COORDINATOR}={self.name}-{JOB}-0-0.{self.name}:{PORT}",
                f"export {PROCESSES}={self.hosts} {PROCESS}=$JOB_COMPLETION_INDEX",
            ]
        text = script(exports(self.variables), several, self.setup, [f"exec {shlex.join(command.words)}"])
        limits = {"google.com/tpu": self.chips, "nvidia.com/gpu": self.gpus}
        container: dict[str, Any] = {
            "name": JOB,
            "image": self.image,
            # Kubernetes puts variables into $(NAME) by itself; two dollars are one that it leaves alone.
            "command": ["bash", "-c", text.replace("$", "$$")],
            "resources": {"limits": {key: value for key, value in limits.items() if value is not None}},
        }
        if self.secrets:
            container["env"] = [
                {"name": name, "valueFrom": {"secretKeyRef": {"name": secret.secret, "key": secret.key}}}
                for name, secret in self.secrets.items()
            ]
        pod: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 60, "containers": [container]}
        chosen = {
            "cloud.google.com/gke-tpu-accelerator": self.accelerator,
            "cloud.google.com/gke-tpu-topology": self.topology,
            "cloud.google.com/gke-spot": "true" if self.spot else None,
        }
        if any(chosen.values()):
            pod["nodeSelector"] = {key: value for key, value in chosen.items() if value is not None}
        if self.service_account:
            pod["serviceAccountName"] = self.service_account
        if self.volumes:
            named = [(f"volume-{place}", volume) for place, volume in enumerate(self.volumes)]
            container["volumeMounts"] = [{"name": name, "mountPath": volume.path} for name, volume in named]
            pod["volumes"] = [
                {"name": name, "persistentVolumeClaim": {"claimName": volume.claim}} for name, volume in named
            ]
        job = {
            "parallelism": self.hosts,
            "completions": self.hosts,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Count", "onPodConditions": [{"type": "DisruptionRemote", "status": "True"}]},
                    # 137 and 143: killed with its node. Whatever else the command ends with, it would end with again.
                    {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [AGAIN, 137, 143]}},
                ]
            },
            "template": {"spec": pod},
        }
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": self.name} | ({"namespace": self.namespace} if self.namespace else {}),
            "spec": {
                "failurePolicy": {
                    "maxRestarts": self.retries,
                    "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
                },
                "replicatedJobs": [{"name": JOB, "replicas": 1, "template": {"spec": job}}],
            },
        }

    def _kubectl(self, *words: str) -> tuple[str, ...]:
        where = {"context": self.context, "namespace": self.namespace}
        return ("kubectl", *(f"--{key}={value}" for key, value in where.items() if value is not None), *words)


def _ends(pods: dict[str, Any]) -> list[tuple[str, int, str]]:
    """When, with which code and in which pod containers failed."""
    found = []
    for pod in pods.get("items", ()):
        for status in pod.get("status", {}).get("containerStatuses", ()):
            end = status.get("state", {}).get("terminated")
            if end and end.get("exitCode"):
                found.append((end.get("finishedAt") or "", int(end["exitCode"]), pod["metadata"]["name"]))
    return found
