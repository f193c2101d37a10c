package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func init() {
	programs["csi-folder"] = serveFolders
}

// folderDriver is the node half of a CSI driver whose volumes are folders of this machine.
//
// It stands in for the driver that a production cluster mounts data sets with: static volumes
// only, each named by the volume attribute "path", which must lie below root. What is asked to be
// read-only is mounted read-only by the kernel.
type folderDriver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	name, node, root, endpoint string
}

func serveFolders() int {
	driver := folderDriver{}
	flags := flag.NewFlagSet("csi-folder", flag.ExitOnError)
	flags.StringVar(&driver.name, "driver-name", "", "name that volumes say as csi.driver")
	flags.StringVar(&driver.node, "node-id", "", "name of this node")
	flags.StringVar(&driver.root, "root", "/", "folder below which every volume must lie")
	flags.StringVar(&driver.endpoint, "endpoint", "", "socket for the kubelet's CSI calls")
	register := flags.String("registration", "", "socket in the kubelet's plugins_registry")
	_ = flags.Parse(os.Args[1:])

	failed := make(chan error, 2)
	go func() {
		failed <- serve(driver.endpoint, func(server *grpc.Server) {
			csi.RegisterIdentityServer(server, &driver)
			csi.RegisterNodeServer(server, &driver)
		})
	}()
	go func() {
		failed <- serve(*register, func(server *grpc.Server) {
			registration.RegisterRegistrationServer(server, &driver)
		})
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	select {
	case err := <-failed:
		fmt.Fprintln(os.Stderr, "csi-folder:", err)
		return 1
	case <-stop:
		return 0
	}
}

func serve(path string, register func(*grpc.Server)) error {
	_ = os.Remove(path) // of a driver that was killed
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	register(server)
	return server.Serve(listener)
}

func (d *folderDriver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              d.name,
		Endpoint:          d.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (d *folderDriver) NotifyRegistrationStatus(_ context.Context, answer *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !answer.PluginRegistered {
		fmt.Fprintln(os.Stderr, "csi-folder: the kubelet refused the driver:", answer.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *folderDriver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.name, VendorVersion: "1"}, nil
}

func (d *folderDriver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

func (d *folderDriver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (d *folderDriver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *folderDriver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

// NodePublishVolume binds the folder to the pod's mount point. Asked twice, it mounts once.
func (d *folderDriver) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	source, err := d.source(request.GetVolumeContext()["path"])
	if err != nil {
		return nil, err
	}
	target := request.GetTargetPath()
	if isMountPoint(target) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return nil, status.Errorf(codes.Internal, "bind %s: %v", source, err)
	}
	if isReadOnly(request) {
		flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV)
		if err := unix.Mount("", target, "", flags, ""); err != nil {
			_ = unix.Unmount(target, 0)
			return nil, status.Errorf(codes.Internal, "make %s read-only: %v", source, err)
		}
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *folderDriver) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	target := request.GetTargetPath()
	if isMountPoint(target) {
		if err := unix.Unmount(target, 0); err != nil {
			return nil, status.Errorf(codes.Internal, "unmount %s: %v", target, err)
		}
	}
	if err := os.Remove(target); err != nil && !os.IsNotExist(err) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// isReadOnly looks at both ways to ask: the pod's claim, and the volume's own mount options. What
// the volume says as csi.readOnly never gets here: kubelet passes on the pod's word alone.
func isReadOnly(request *csi.NodePublishVolumeRequest) bool {
	for _, flag := range request.GetVolumeCapability().GetMount().GetMountFlags() {
		if flag == "ro" {
			return true
		}
	}
	return request.GetReadonly()
}

// source resolves symbolic links before it looks whether the folder lies below root.
func (d *folderDriver) source(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", status.Errorf(codes.NotFound, "volume attribute path: %v", err)
	}
	root := strings.TrimSuffix(d.root, "/") + "/"
	if !filepath.IsAbs(resolved) || !strings.HasPrefix(resolved+"/", root) {
		return "", status.Errorf(codes.InvalidArgument, "%s does not lie below %s", path, d.root)
	}
	return resolved, nil
}

func isMountPoint(path string) bool {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == path {
			return true
		}
	}
	return false
}
