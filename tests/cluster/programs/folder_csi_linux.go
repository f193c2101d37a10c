package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// driver is the name that volumes call this by; the embedded cluster's folders have the same.
const driver = "collab.embedded"

func init() {
	programs["folder-csi"] = func() int {
		if len(os.Args) != 3 {
			fmt.Fprintln(os.Stderr, "usage: folder-csi KUBELET-ROOT NODE-NAME")
			return 2
		}
		if err := serveFolders(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "folder-csi:", err)
			return 1
		}
		return 0
	}
}

// folders is a CSI driver, the node's part of it alone: it mounts the folder that a volume names
// in its attribute "path". Data sets are such volumes in the tests.
type folders struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	socket, node string
}

// serveFolders listens where kubelet looks for plug-ins: one socket for both services.
func serveFolders(root, node string) error {
	registry := filepath.Join(root, "plugins_registry")
	if err := os.MkdirAll(registry, 0o750); err != nil {
		return err
	}
	socket := filepath.Join(registry, driver+".sock")
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	service := &folders{socket: socket, node: node}
	csi.RegisterIdentityServer(server, service)
	csi.RegisterNodeServer(server, service)
	registration.RegisterRegistrationServer(server, service)
	return server.Serve(listener)
}

func (f *folders) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              driver,
		Endpoint:          f.socket,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (f *folders) NotifyRegistrationStatus(
	_ context.Context, result *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !result.PluginRegistered {
		fmt.Fprintln(os.Stderr, "folder-csi: kubelet refuses the driver:", result.Error)
		os.Exit(1)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func (f *folders) GetPluginInfo(
	context.Context, *csi.GetPluginInfoRequest,
) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driver, VendorVersion: "1"}, nil
}

func (f *folders) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

func (f *folders) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (f *folders) NodeGetInfo(
	context.Context, *csi.NodeGetInfoRequest,
) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: f.node}, nil
}

func (f *folders) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

// NodePublishVolume mounts the folder, read-only where the volume or the pod says so. A second
// call for the same target changes nothing.
func (f *folders) NodePublishVolume(
	_ context.Context, request *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	source, target := request.GetVolumeContext()["path"], request.GetTargetPath()
	if !filepath.IsAbs(source) {
		return nil, status.Errorf(codes.InvalidArgument, "volumeAttributes.path %q is not absolute", source)
	}
	if found, err := os.Stat(source); err != nil || !found.IsDir() {
		return nil, status.Errorf(codes.NotFound, "%s is not a folder of the node", source)
	}
	if err := unmountAll(target); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return nil, status.Errorf(codes.Internal, "mount %s: %v", source, err)
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV)
	if request.GetReadonly() || isReader(request.GetVolumeCapability()) {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("", target, "", flags, ""); err != nil {
		_ = unmountAll(target)
		return nil, status.Errorf(codes.Internal, "remount %s: %v", source, err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume takes the mount away, never what is in it.
func (f *folders) NodeUnpublishVolume(
	_ context.Context, request *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := unmountAll(request.GetTargetPath()); err != nil {
		return nil, err
	}
	// Remove, not RemoveAll: a folder that is not empty is still a mount.
	if err := os.Remove(request.GetTargetPath()); err != nil && !os.IsNotExist(err) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// isReader says whether the access mode itself is for reading only.
func isReader(capability *csi.VolumeCapability) bool {
	mode := capability.GetAccessMode().GetMode()
	return mode == csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY ||
		mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
}

func unmountAll(target string) error {
	for {
		switch err := unix.Unmount(target, 0); err {
		case nil: // perhaps mounted twice
		case unix.EINVAL, unix.ENOENT:
			return nil
		default:
			return status.Errorf(codes.Internal, "unmount %s: %v", target, err)
		}
	}
}
