// Command pod-security checks the pods in rendered manifests against a Pod Security profile, with Kubernetes' own code.
//
//	pod-security [baseline|restricted] <manifests.yaml
//
// The exit code is 1 if a pod breaks a rule, or if there is no pod.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	sigsyaml "sigs.k8s.io/yaml"
)

// object has the fields of a manifest that contain a pod template.
type object struct {
	Kind     string            `json:"kind"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		Template    *corev1.PodTemplateSpec `json:"template"` // of a Deployment, a Job and their like
		JobTemplate struct {
			Spec struct {
				Template *corev1.PodTemplateSpec `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"` // of a CronJob
	} `json:"spec"`
}

// pod returns the metadata and the specification of the manifest's pods, or nil.
func pod(manifest []byte) (name string, meta *metav1.ObjectMeta, spec *corev1.PodSpec, err error) {
	var header struct{ Kind string }
	if err := sigsyaml.Unmarshal(manifest, &header); err != nil {
		return "", nil, nil, err
	}
	switch header.Kind {
	case "Pod":
		var p corev1.Pod
		err := sigsyaml.Unmarshal(manifest, &p)
		return "Pod/" + p.Name, &p.ObjectMeta, &p.Spec, err
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob":
		var o object
		if err := sigsyaml.Unmarshal(manifest, &o); err != nil {
			return "", nil, nil, err
		}
		template := o.Spec.Template
		if o.Kind == "CronJob" {
			template = o.Spec.JobTemplate.Spec.Template
		}
		if template == nil {
			return "", nil, nil, fmt.Errorf("%s/%s has no pod template", o.Kind, o.Metadata.Name)
		}
		return o.Kind + "/" + o.Metadata.Name, &template.ObjectMeta, &template.Spec, nil
	}
	return "", nil, nil, nil
}

func run(level api.Level, manifests io.Reader) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		return err
	}
	pods, broken := 0, 0
	reader := yaml.NewYAMLReader(bufio.NewReader(manifests))
	for {
		manifest, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, meta, spec, err := pod(manifest)
		if err != nil {
			return err
		}
		if spec == nil {
			continue
		}
		pods++
		for _, result := range evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, meta, spec) {
			if !result.Allowed {
				broken++
				fmt.Fprintf(os.Stderr, "%s: %s: %s\n", name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
	}
	if pods == 0 {
		return errors.New("the manifests contain no pod")
	}
	if broken > 0 {
		return fmt.Errorf("%d rules of the profile %s are broken", broken, level)
	}
	fmt.Printf("%d pods keep to the profile %s\n", pods, level)
	return nil
}

func main() {
	level := api.LevelRestricted
	if len(os.Args) > 1 {
		var err error
		if level, err = api.ParseLevel(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "pod-security:", err)
			os.Exit(2)
		}
	}
	if err := run(level, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "pod-security:", err)
		os.Exit(1)
	}
}
